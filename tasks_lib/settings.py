"""What can be set from outside: environment variables with the prefix `UNITASK_`, read once a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tasks_lib.errors import TaskValidationError
from tasks_lib.models import ModelTable

Seconds = Annotated[float, Field(gt=0)]


def _check_database(url: str) -> str:
    # Only whether: the URL may hold a password.
    try:
        is_postgres = not url or sa.make_url(url).get_backend_name() == "postgresql"
    except sa.exc.ArgumentError:
        is_postgres = False
    if not is_postgres:
        raise ValueError("must be the URL of a Postgres, such as postgresql://me@host/unitask")
    return url


DatabaseUrl = Annotated[str, AfterValidator(_check_database)]


class Settings(BaseSettings):
    """Every field is the variable `UNITASK_<FIELD>`; durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="UNITASK_", frozen=True, hide_input_in_errors=True)

    home: Path = Path("~/.unitask").expanduser()
    """Where the embedded Postgres, the stored media, the logs and Prefect's own files live."""

    database_url: DatabaseUrl = ""
    """SQLAlchemy URL of the tasks database; empty means the embedded Postgres under `home`."""

    worker_database_url: DatabaseUrl = ""
    """The same database with a login in `unitask_worker`, which worker flows use and then know no other; empty means
    `database_url`."""

    storage_url: str = ""
    """fsspec URL under which media are kept; empty means a folder under `home`."""

    token: SecretStr | None = None
    """The personal access token that Python callers and the command line use."""

    service_key: SecretStr | None = None
    """The key that may act for any project."""

    jwt_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """The secret of HS256 tokens, as a login service such as Supabase shares it."""

    jwt_jwks_url: Annotated[str, Field(pattern=r"^(https://.+|http://(localhost|127\.0\.0\.1)[:/].*)?$")] = ""
    """Where the public keys of RS256, ES256 and EdDSA tokens are."""

    jwt_audience: str = "authenticated"
    """What `aud` of a token must name."""

    jwt_issuer: str | None = None
    """What `iss` must be; unset means that any issuer who has the key is believed."""

    jwt_leeway_seconds: Annotated[float, Field(ge=0, le=120)] = 10
    """How far the clocks of issuer and service may be apart."""

    create_calls_per_minute: Annotated[int, Field(ge=1)] = 120
    """Creating calls that one user may make in a minute; the service key is exempt from all such bounds."""

    create_rows_per_minute: Annotated[int, Field(ge=1)] = 20_000
    """Tasks that one user may create in a minute."""

    upload_calls_per_minute: Annotated[int, Field(ge=1)] = 600
    """Files that one user may upload in a minute."""

    change_calls_per_minute: Annotated[int, Field(ge=1)] = 600
    """Cancels and retries that one user may ask for in a minute."""

    seal_public_key: str = ""
    """The service's public key, to which callers seal tokens; empty means `keys/seal.pub` in `home`."""

    seal_private_key: SecretStr | None = None
    """The key that opens them, for the service alone; unset means `keys/seal.key` in `home`."""

    seal_seconds: Annotated[float, Field(gt=0, le=3600)] = 600
    """How long a sealed token is good for; a run that starts later is refused."""

    lease_seconds: Seconds = 60
    """How long a worker may be silent before its task can be claimed by another."""

    heartbeat_seconds: Seconds = 5
    """How often a worker extends its leases; keep it at a third of the lease or less."""

    progress_seconds: Seconds = 1
    """How often a worker stores the progress of its tasks, where there is any, all of them in one statement."""

    progress_event_seconds: Annotated[float, Field(ge=0)] = 5
    """At most so often the progress of one task becomes an event."""

    preview_seconds: Seconds = 5
    """At most so often a running task stores a small picture of what it makes."""

    poll_seconds: Seconds = 1.5
    """How long an idle worker waits for a wake-up before it looks by itself."""

    idle_seconds: Seconds = 900
    """After this long without work a worker flow ends, so that a pool can scale to zero."""

    worker_max_tasks: Annotated[int, Field(ge=1)] = 500
    """A worker flow run is renewed after so many tasks, so that its page stays readable."""

    worker_max_seconds: Seconds = 6 * 3600
    """A worker flow run is renewed after this long."""

    drain_seconds: Seconds = 12
    """How long a worker that is asked to end goes on with what it holds; then it hands back the rest."""

    storage_seconds: Seconds = 300
    """The longest that storing or fetching one file may take; a storage that is full is waited for as long."""

    gpu_slots: Annotated[int, Field(ge=1)] = 1
    """Tasks that one gpu worker runs at once."""

    api_slots: Annotated[int, Field(ge=1)] = 16
    """API tasks that one api worker has at providers at once; orchestrators wait outside this bound."""

    gpu_workers: Annotated[int, Field(ge=0)] = 1
    """At most so many gpu worker flows are kept running for the backlog."""

    api_workers: Annotated[int, Field(ge=0)] = 1
    """At most so many api worker flows are kept running for the backlog."""

    max_tasks_per_user: Annotated[int, Field(ge=1)] | None = None
    """How many leases one user may hold at once in a pool; unset means no bound. Orchestrators do not count."""

    allow_private_urls: bool = False
    """Whether media URLs may point at private, loopback and link-local addresses."""

    download_bytes: Annotated[int, Field(ge=1)] = 2 << 30
    """The largest file that a media URL may give."""

    download_seconds: Seconds = 600
    """The longest that fetching one may take."""

    image_pixels: Annotated[int, Field(ge=1)] = 64_000_000
    """The largest picture that is decoded; 64 million pixels take 192 MB."""

    video_pixels: Annotated[int, Field(ge=1)] = 7680 * 4320
    """The largest frame of a clip that is decoded."""

    video_frames: Annotated[int, Field(ge=1)] = 36_000
    """The longest clip that is taken as an input, in frames."""

    engine_max_tasks: Annotated[int, Field(ge=1)] = 200
    """A gpu worker's engine process is renewed after so many tasks."""

    engine_growth_bytes: Annotated[int, Field(ge=1)] = 4 << 30
    """The engine process is renewed when it has grown by so much since its first task."""

    credits_enforced: bool = False
    """Whether a missing balance refuses a create; costs are recorded either way."""

    replicate_token: SecretStr | None = None
    """The key for Replicate. Without one its task types cannot be served."""

    fal_key: SecretStr | None = None
    """The key for fal."""

    replicate_url: str = "https://api.replicate.com"
    """Where Replicate's API is."""

    fal_url: str = "https://queue.fal.run"
    """Where fal's queue is."""

    fal_jwks_url: str = "https://rest.fal.ai/.well-known/jwks.json"
    """Where fal's public keys are, with which it signs webhooks."""

    webhook_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    """Where providers reach `unitask provider-webhooks` from outside; empty means that jobs are only looked at."""

    providers: dict[str, str] = {}
    """Which provider serves a task type, where not the default one: `{"magic_edit": "fal"}`, or with a model of its
    own, `{"replicate_upscale": "replicate:owner/name:version"}`. The provider `engine` is our own gpu workers, with a
    model of `models` where the type needs one: `{"qwen_image": "engine:my-qwen"}`."""

    models: ModelTable = {}
    """The models of our own engines by alias, as JSON or as the path of a TOML file: see docs/engines.md."""

    model_bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes of weights that a gpu worker keeps loaded; unset is three quarters of the GPU's memory, or half of the
    machine's without one. All slots of a worker share it."""

    lora_folder: Path | None = None
    """Where the adapters lie that tasks name, as safetensors files; unset means that tasks can name none."""

    lora_download: bool = False
    """Whether a task may name an adapter by its URL, which is fetched into `lora_folder`."""

    replicate_concurrency: Annotated[int, Field(ge=1)] = 20
    """Jobs that all workers together have running at Replicate, for each account there."""

    replicate_per_minute: Annotated[int, Field(ge=1)] = 500
    """Jobs that all workers together submit to Replicate in a minute, for each account there."""

    fal_concurrency: Annotated[int, Field(ge=1)] = 10
    """Jobs that all workers together have running at fal, for each account there."""

    fal_per_minute: Annotated[int, Field(ge=1)] = 500
    """Jobs that all workers together submit to fal in a minute, for each account there."""

    provider_connect_seconds: Seconds = 10
    """The longest that connecting to a provider may take."""

    provider_read_seconds: Seconds = 30
    """The longest that a provider may be silent within a call."""

    provider_call_seconds: Seconds = 60
    """The longest that one call may take in all; for a submission, all its tries together."""

    provider_wait_seconds: Seconds = 10
    """A provider that asks to wait longer is left alone by all workers, and the task comes back later."""

    provider_poll_seconds: Seconds = 0.2
    """The shortest pause between two looks at a job; the longest is fifty times that (`providers/patience.py`)."""

    provider_job_seconds: Seconds = 1800
    """A job that runs longer at a provider is cancelled there, and its task fails."""

    provider_inline_bytes: Annotated[int, Field(ge=1)] = 8 << 20
    """The largest stored input that is sent inside a request, where the storage cannot sign a URL for it."""

    task_days: Annotated[float, Field(ge=0)] = 90
    """Finished tasks are deleted after so many days, generations stay; 0 keeps tasks for ever."""

    event_days: Annotated[float, Field(ge=0)] = 30
    """Events are deleted after so many days; 0 keeps them for ever."""

    orphan_seconds: Seconds = 24 * 3600
    """How old a file that belongs to nothing must be to be deleted."""

    public_media_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    """Where everybody can read the storage, `https://media.example.com`; empty means that the storage signs URLs."""

    media_url_seconds: Seconds = 3600
    """How long a signed URL is good for."""

    gateway_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the gateway themselves: `["https://app.example.com"]`. Back ends need none."""

    batch_urls: tuple[str, ...] = ()
    """fsspec URLs under which scheduled batches may read lists and folders of images, for example `s3://bucket/in/`.
    Lists may always come from http(s)."""

    @property
    def resolved_storage_url(self) -> str:
        """The storage URL in force, without a trailing slash."""
        return (self.storage_url or f"file://{self.home.resolve() / 'storage'}").rstrip("/")


@cache
def get_settings() -> Settings:
    """The settings of this process. Tests clear it with `get_settings.cache_clear()`.

    Raises `TaskValidationError` that names the variables which are wrong, and never what they hold.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            (f"UNITASK_{detail['loc'][0]}".upper(), detail["msg"].removeprefix("Value error, "))
            for detail in error.errors()
        ]
        raise TaskValidationError("; ".join(f"{name}: {text}" for name, text in wrong), wrong[0][0]) from None
    except SettingsError as error:  # what should be JSON is none
        raise TaskValidationError(str(error)) from None
