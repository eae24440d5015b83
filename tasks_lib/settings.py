"""What can be set from outside: environment variables with the prefix `UNITASK_`, read once a process.

docs/settings.md lists them; `python -m tests.support.settings_page` makes it anew from this file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tasks_lib.errors import TaskValidationError
from tasks_lib.models import ModelTable


def _check_database(url: str) -> str:
    # Only whether: the URL may hold a password.
    try:
        is_postgres = not url or sa.make_url(url).get_backend_name() == "postgresql"
    except sa.exc.ArgumentError:
        is_postgres = False
    if not is_postgres:
        raise ValueError("must be the URL of a Postgres, such as postgresql://me@host/unitask")
    return url


Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
DatabaseUrl = Annotated[str, AfterValidator(_check_database)]
WebUrl = Annotated[str, Field(pattern=r"^(https?://.+)?$")]


class _Group(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UNITASK_", frozen=True, hide_input_in_errors=True)


class _Storage(_Group):
    """Where things are kept"""

    home: Path = Path("~/.unitask").expanduser()
    """Folder of the embedded Postgres, the stored media, the logs, the keys and Prefect's own files."""

    database_url: DatabaseUrl = ""
    """URL of the tasks database in Postgres. Empty: an embedded Postgres under `UNITASK_HOME`."""

    worker_database_url: DatabaseUrl = ""
    """URL of the same database with a login in the role `unitask_worker`; worker flows then use no other. Empty: the
    URL of `UNITASK_DATABASE_URL`."""

    storage_url: str = ""
    """fsspec URL of the folder or bucket for media. Empty: the folder `storage` under `UNITASK_HOME`."""

    storage_seconds: Seconds = 300
    """Seconds that storing or fetching one file may take, waiting for room in a full storage included."""

    public_media_url: WebUrl = ""
    """URL under which everybody can read the storage, such as `https://media.example.com`. Empty: the storage signs
    the URLs of results."""

    media_url_seconds: Seconds = 3600
    """Seconds that a signed URL is valid."""

    batch_urls: tuple[str, ...] = ()
    """fsspec URLs, such as `["s3://bucket/in/"]`, under which scheduled batches may read lists and folders of images.
    Lists at http(s) URLs are always allowed."""


class _Retention(_Group):
    """How long it is kept"""

    task_days: Annotated[float, Field(ge=0)] = 90
    """Days after which a finished task is deleted; its results stay. 0: never."""

    event_days: Annotated[float, Field(ge=0)] = 30
    """Days after which an event is deleted. 0: never."""

    orphan_seconds: Seconds = 24 * 3600
    """Age in seconds from which a file that belongs to no result is deleted."""


class _Access(_Group):
    """Who is let in"""

    token: SecretStr | None = None
    """Personal access token that the command line and the Python library use."""

    service_key: SecretStr | None = None
    """Key whose holder may act for every project. Not set: there is no such key."""

    jwt_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """Secret that a login service, such as Supabase, signs its HS256 tokens with. Not set: HS256 is refused."""

    jwt_jwks_url: Annotated[str, Field(pattern=r"^(https://.+|http://(localhost|127\.0\.0\.1)[:/].*)?$")] = ""
    """URL of the public keys (JWKS) of a login service for RS256, ES256 and EdDSA tokens. Empty: those are refused."""

    jwt_audience: str = "authenticated"
    """Audience that a token must name in `aud`."""

    jwt_issuer: str | None = None
    """Issuer that a token must name in `iss`. Not set: every issuer that signs with the key is accepted."""

    seal_public_key: str = ""
    """Public key with which callers encrypt their tokens for deployment runs. Empty: `keys/seal.pub` in
    `UNITASK_HOME`."""

    seal_private_key: SecretStr | None = None
    """Private key that decrypts those tokens; only the service needs it. Not set: `keys/seal.key` in
    `UNITASK_HOME`."""

    gateway_origins: tuple[str, ...] = ()
    """Web origins, such as `["https://app.example.com"]`, whose pages may call the gateway from a browser."""


class _Limits(_Group):
    """What callers may ask for"""

    create_calls_per_minute: Count = 120
    """Calls that create tasks, per user and minute; and as many quotes. The service key is exempt from this and the
    next three limits."""

    create_rows_per_minute: Count = 20_000
    """Tasks created, per user and minute."""

    change_calls_per_minute: Count = 600
    """Cancels and retries, per user and minute; and as many uploads."""

    read_calls_per_minute: Count = 6_000
    """Lists, and by HTTP other looks at tasks, per user and minute."""

    upload_bytes_per_user: Count = 100 << 30
    """Bytes that the uploads of a user may take in the storage, all projects together; a deleted project's count no
    more."""

    max_tasks_per_user: Count | None = None
    """Tasks of one user that run at once in a pool, orchestrators not counted. Not set: no limit."""

    credits_enforced: bool = False
    """Whether a create is refused when the user's balance is too low. Costs are recorded in any case."""

    allow_private_urls: bool = False
    """Whether media URLs may point to private, loopback and link-local addresses."""

    download_bytes: Count = 2 << 30
    """Largest file in bytes that is fetched from a media URL."""

    download_seconds: Seconds = 600
    """Seconds that fetching one file from a media URL may take."""

    image_pixels: Count = 64_000_000
    """Largest picture in pixels that is decoded; each million takes 3 MB of memory."""

    video_pixels: Count = 7680 * 4320
    """Largest frame of a clip in pixels that is decoded."""

    video_frames: Count = 36_000
    """Longest clip in frames that is accepted as an input."""


class _Workers(_Group):
    """Workers"""

    gpu_workers: Annotated[int, Field(ge=0)] = 1
    """Most gpu worker flows that are kept running for the tasks that wait."""

    api_workers: Annotated[int, Field(ge=0)] = 1
    """Most api worker flows that are kept running for the tasks that wait."""

    gpu_slots: Count = 1
    """Tasks that one gpu worker flow runs at once."""

    api_slots: Count = 16
    """Tasks that one api worker flow runs at once, orchestrators not counted."""

    lease_seconds: Seconds = 60
    """Seconds without a heartbeat after which a worker's task can be claimed by another worker."""

    heartbeat_seconds: Seconds = 5
    """Seconds between two heartbeats of a worker; at most a third of `UNITASK_LEASE_SECONDS`."""

    poll_seconds: Seconds = 1.5
    """Seconds that an idle worker waits for a notification before it looks for tasks itself."""

    progress_seconds: Seconds = 1
    """Seconds between two times that a worker stores the progress of its tasks."""

    progress_event_seconds: Annotated[float, Field(ge=0)] = 5
    """Minimum seconds between two progress events of one task."""

    preview_seconds: Seconds = 5
    """Minimum seconds between two preview pictures of one task."""

    idle_seconds: Seconds = 900
    """Seconds without a task after which a worker flow ends."""

    worker_max_tasks: Count = 500
    """Tasks after which a worker flow run is replaced by a new one."""

    worker_max_seconds: Seconds = 6 * 3600
    """Seconds after which a worker flow run is replaced by a new one."""

    drain_seconds: Seconds = 12
    """Seconds that a worker which is asked to end may take to finish its tasks; then it releases the rest."""

    catch_up_seconds: Seconds = 86_400
    """Seconds after which a planned time of a schedule is not made any more, but reported as missed."""

    engine_max_tasks: Count = 200
    """Tasks after which a gpu worker's engine process is replaced by a new one."""


class _Models(_Group):
    """Models of our own engines"""

    models: ModelTable = {}
    """Models by alias, as JSON or as the path of a TOML file: see [engines](engines.md)."""

    model_bytes: Count | None = None
    """Bytes of weights that a gpu worker keeps loaded, for all its slots together. Not set: three quarters of the GPU's
    memory, or half of the machine's where there is no GPU."""

    lora_folder: Path | None = None
    """Folder of the safetensors files that tasks may name as adapters. Not set: tasks may name none."""

    lora_download: bool = False
    """Whether a task may name an adapter by its URL, which is then fetched into `UNITASK_LORA_FOLDER`."""


class _Providers(_Group):
    """Providers"""

    providers: dict[str, str] = {}
    """Provider by task type, where it is not the default one: `{"magic_edit": "fal"}`. A model may follow:
    `{"replicate_upscale": "replicate:owner/name:version"}`. The provider `engine` is our own gpu workers, with a model
    of `UNITASK_MODELS` where the type needs one: `{"qwen_image": "engine:my-qwen"}`."""

    replicate_token: SecretStr | None = None
    """API token for Replicate. Not set: only users who gave a key of their own are served there."""

    replicate_url: WebUrl = "https://api.replicate.com"
    """URL of Replicate's API."""

    replicate_concurrency: Count = 20
    """Jobs that run at Replicate at once, of all workers together, for each account there."""

    replicate_per_minute: Count = 500
    """Jobs that are submitted to Replicate per minute, by all workers together, for each account there."""

    fal_key: SecretStr | None = None
    """API key for fal. Not set: only users who gave a key of their own are served there."""

    fal_url: WebUrl = "https://queue.fal.run"
    """URL of fal's queue."""

    fal_jwks_url: WebUrl = "https://rest.fal.ai/.well-known/jwks.json"
    """URL of the public keys with which fal signs webhooks."""

    fal_concurrency: Count = 10
    """Jobs that run at fal at once, of all workers together, for each account there."""

    fal_per_minute: Count = 500
    """Jobs that are submitted to fal per minute, by all workers together, for each account there."""

    webhook_url: WebUrl = ""
    """URL at which providers reach `unitask provider-webhooks`. Empty: workers only poll."""

    provider_poll_seconds: Seconds = 0.2
    """Shortest pause in seconds between two polls of a job; the longest is fifty times as long."""

    provider_call_seconds: Seconds = 60
    """Seconds that one call of a provider may take in all, half of them without a byte; for a submission, all its tries
    together."""

    provider_wait_seconds: Seconds = 10
    """Longest pause in seconds, asked for by a provider, that a task waits for. For a longer one the task is released,
    and no worker calls that account until it is over."""

    provider_job_seconds: Seconds = 1800
    """Seconds after which a job that still runs at a provider is cancelled there, and its task fails."""


class Settings(_Storage, _Retention, _Access, _Limits, _Workers, _Models, _Providers):
    """Every field is the variable `UNITASK_<FIELD>`."""

    @property
    def resolved_storage_url(self) -> str:
        """The storage URL in force, without a trailing slash."""
        return (self.storage_url or f"file://{self.home.resolve() / 'storage'}").rstrip("/")


@cache
def get_settings() -> Settings:
    """Return the settings of this process. Tests clear it with `get_settings.cache_clear()`.

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
