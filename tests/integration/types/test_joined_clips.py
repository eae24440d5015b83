"""Clips of different sizes and rates become one film, through create, plan, claim, execute and complete."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import OutputContainer

from tasks_lib import create_join_clips_task, get_task, queue, upload_media
from tasks_lib.creation import plant_children
from tasks_lib.engines.base import Frame
from tasks_lib.engines.bench import Bench
from tasks_lib.errors import TaskValidationError
from tasks_lib.media.images import load_image
from tasks_lib.media.quality import psnr
from tasks_lib.media.sound import has_sound
from tasks_lib.media.video import SOUND_RATE, Samples, probe, read_frames, write_video
from tasks_lib.queue import ClaimedTask
from tasks_lib.storage import fetch
from tasks_lib.types.join_clips_orchestrator import JoinClipsParams
from tasks_lib.types.registry import get_task_type
from tests.conftest import Owner


def clip(
    folder: Path, name: str, colour: tuple[int, int, int], *, frames: int, size: tuple[int, int], fps: float
) -> Path:
    """A clip of one colour that slowly brightens."""
    path = folder / f"{name}.mp4"
    width, height = size

    def pictures() -> list[Frame]:
        return [np.full((height, width, 3), np.add(colour, i // 2), np.uint8) for i in range(frames)]

    write_video(path, iter(pictures()), fps, lossless=False)
    return path


def run(task: ClaimedTask, folder: Path) -> None:
    """Execute a claimed task here, as the engine process does."""
    folder.mkdir()
    execute = get_task_type(task.task_type).execute
    assert execute is not None
    queue.complete(task.lease, execute(Bench(task, folder, lambda _: None, lambda: False)))


def speaking(
    path: Path,
    colour: tuple[int, int, int],
    *,
    frames: int,
    hz: float,
    fps: int = 16,
    rate: int = 48_000,
    layout: str = "stereo",
    silent: float = 0,
) -> Path:
    """A clip of one colour and one tone, which begins after `silent` seconds."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=fps)
        audio = output.add_stream("aac", rate=rate, layout=layout)
        assert isinstance(video, av.VideoStream)
        assert isinstance(audio, av.AudioStream)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for _ in range(frames):
            picture = np.full((64, 96, 3), colour, np.uint8)
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(video.encode(None))
        say(output, audio, hz, frames / fps, silent)
    return path


def say(output: OutputContainer, stream: av.AudioStream, hz: float, seconds: float, silent: float) -> None:
    """A tone of the amplitude 0.4."""
    at = np.arange(round(seconds * stream.rate)) / stream.rate
    wave = np.where(at < silent, 0, 0.4 * np.sin(2 * np.pi * hz * at)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(
        np.tile(wave, (stream.layout.nb_channels, 1)), format="fltp", layout=stream.layout.name
    )
    frame.sample_rate, frame.pts = stream.rate, 0
    output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def sound_of(path: Path) -> Samples:
    """All sound of a film, which must be stereo at 48 kHz AAC."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        assert (stream.codec_context.name, stream.rate, stream.layout.name) == ("aac", SOUND_RATE, "stereo")
        return np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], axis=1)


def tone(heard: Samples, begin: float, end: float) -> tuple[float, float]:
    """Frequency and amplitude of what is loudest between two moments."""
    part = heard[0, round(begin * SOUND_RATE) : round(end * SOUND_RATE)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(part.size), 8 * SOUND_RATE))
    return float(np.argmax(spectrum)) / 8, float(np.sqrt(2 * np.mean(np.square(part))))


def onset(heard: Samples, after: float) -> float:
    """When, after a moment, it becomes loud."""
    first = round(after * SOUND_RATE)
    return float((first + np.argmax(np.abs(heard[0, first:]) > 0.2)) / SOUND_RATE)


def join(owner: Owner, folder: Path, clips: list[Path], **params: Any) -> tuple[Path, dict[str, Any]]:
    """The film of clips, through create, plan, claim, execute and complete; its file and what is known of it."""
    created = create_join_clips_task(
        project_id=owner.project_id,
        clips=[{"url": upload_media(path, project_id=owner.project_id)} for path in clips],
        **{"context_frame_count": 4, "gap_frame_count": 9, "seed": 1, **params},
    )
    (film,) = queue.claim("api", "host", hosted=True)
    plant_children(film)
    bridges = queue.claim("gpu", "worker", limit=10)
    assert {task.task_type for task in bridges} == {"join_clips_segment"}
    for task in bridges:
        run(task, folder / str(task.child_key))
    (stitch,) = queue.claim("gpu", "worker", limit=10)
    run(stitch, folder / "stitch")

    done = get_task(created.task_id)
    assert done.status == "Complete", done.error_message
    assert done.output_location is not None
    assert done.result is not None
    result, poster = folder / "film.mp4", folder / "poster.jpg"
    fetch(done.output_location, result)
    fetch(done.result["poster"], poster)
    assert psnr(load_image(poster, 96, 64), next(read_frames(result))) > 30
    facts = probe(result).as_dict()
    return result, {name: facts[name] for name in ("frames", "width", "height", "fps")}


@pytest.mark.parametrize(("replace", "frames"), [(True, 24 + 24 + 30), (False, 24 + 24 + 30 + 2 * 9)])
def test_film_has_the_planned_frames_when_clips_differ_in_size_and_rate(
    owner: Owner, tmp_path: Path, replace: bool, frames: int
) -> None:
    clips = [
        clip(tmp_path, "red", (120, 20, 20), frames=24, size=(96, 64), fps=16),
        clip(tmp_path, "green", (20, 120, 20), frames=48, size=(64, 96), fps=32),
        clip(tmp_path, "blue", (20, 20, 120), frames=30, size=(96, 64), fps=16),
    ]
    result, facts = join(owner, tmp_path, clips, replace_mode=replace)
    assert facts == {"frames": frames, "width": 96, "height": 64, "fps": 16}
    shown = [int(np.argmax(frame.mean(axis=(0, 1)))) for frame in read_frames(result)]
    assert [shown[0], shown[frames // 2 - 3], shown[-1]] == [0, 1, 2]
    assert not has_sound(result)


@pytest.mark.parametrize(("replace", "made"), [(True, 0), (False, 9)])
def test_film_leads_back_to_its_first_frame_when_it_is_a_loop(
    owner: Owner, tmp_path: Path, replace: bool, made: int
) -> None:
    red = clip(tmp_path, "red", (120, 20, 20), frames=24, size=(96, 64), fps=16)
    green = clip(tmp_path, "green", (20, 120, 20), frames=30, size=(96, 64), fps=16)
    # As older clients send it, with the first clip once more at the end.
    result, facts = join(owner, tmp_path, [red, green, red], loop_first_clip=True, replace_mode=replace)
    assert facts["frames"] == 24 + 30 + 2 * made
    frames = list(read_frames(result))
    step = max(float(np.abs(a.astype(int) - b).mean()) for a, b in pairwise(frames[-4:] + frames[:2]))
    assert step < 20, "no cut where the end meets the beginning"
    assert int(np.argmax(frames[-6 - made].mean(axis=(0, 1)))) == 1


def test_one_clip_is_a_film_when_it_is_a_loop(owner: Owner, tmp_path: Path) -> None:
    only = speaking(tmp_path / "only.mp4", (120, 20, 20), frames=32, hz=440)
    result, facts = join(owner, tmp_path, [only], loop=True)
    assert facts["frames"] == 32
    heard = sound_of(result)
    assert tone(heard, 0.05, 1.0) == pytest.approx((440, 0.4), rel=0.1)
    # The five frames that the bridge replaced at the beginning are heard at the end.
    assert tone(heard, 1.75, 1.95)[0] == pytest.approx(440, abs=12)


def test_clips_are_heard_where_they_are_seen_when_they_are_joined(owner: Owner, tmp_path: Path) -> None:
    low = speaking(tmp_path / "low.mp4", (120, 20, 20), frames=24, hz=440)
    # Another rate of frames and of sound, one channel, and silence until the middle.
    high = speaking(
        tmp_path / "high.mkv", (20, 20, 120), frames=48, hz=880, fps=32, rate=44_100, layout="mono", silent=0.75
    )
    result, facts = join(owner, tmp_path, [low, high])
    assert facts["frames"] == 48
    heard = sound_of(result)
    assert heard.shape[1] / SOUND_RATE == pytest.approx(3, abs=1 / 16)
    assert tone(heard, 0.05, 0.9) == pytest.approx((440, 0.4), rel=0.05)
    # The bridge is seen from 1.0 to 2.06 s; under it the first clip fades until its end at 1.5 s.
    assert tone(heard, 1.2, 1.3)[0] == pytest.approx(440, abs=20)
    levels = [tone(heard, at, at + 0.05)[1] for at in (0.9, 1.1, 1.2, 1.3, 1.4)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.4, rel=0.1)
    assert levels[-1] == pytest.approx(0.4 * np.sin(np.pi / 2 * 0.15), abs=0.04)
    assert tone(heard, 1.55, 2.2)[1] < 0.01
    assert onset(heard, 1.6) == pytest.approx(1.5 + 0.75, abs=0.02), "in step with its pictures"
    assert tone(heard, 2.3, 2.95) == pytest.approx((880, 0.4), rel=0.05)


def test_film_is_silent_where_nothing_is_to_be_heard_when_frames_are_inserted(owner: Owner, tmp_path: Path) -> None:
    low = speaking(tmp_path / "low.mp4", (120, 20, 20), frames=24, hz=440)
    mute = clip(tmp_path, "mute", (20, 120, 20), frames=32, size=(64, 96), fps=16)
    high = speaking(tmp_path / "high.mp4", (20, 20, 120), frames=24, hz=880)
    result, facts = join(owner, tmp_path, [low, mute, high], replace_mode=False)
    assert facts["frames"] == 24 + 32 + 24 + 2 * 9
    heard = sound_of(result)
    assert tone(heard, 0.05, 1.2) == pytest.approx((440, 0.4), rel=0.05)
    starts = (24 + 32 + 2 * 9) / 16
    assert tone(heard, 1.55, starts - 0.05)[1] < 0.01
    assert tone(heard, starts + 0.3, starts + 1.45) == pytest.approx((880, 0.4), rel=0.05)


def test_track_is_heard_instead_of_the_clips_when_one_is_given(owner: Owner, tmp_path: Path) -> None:
    clips = [speaking(tmp_path / f"{i}.mp4", (120, 20, 20), frames=24, hz=440) for i in range(2)]
    track = tmp_path / "track.wav"
    with av.open(str(track), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=22_050, layout="mono")
        assert isinstance(stream, av.AudioStream)
        say(output, stream, 660, 10, 0)
    reference = upload_media(track, project_id=owner.project_id)
    result, facts = join(owner, tmp_path, clips, audio_url=reference)
    heard = sound_of(result)
    assert facts["frames"] == 48
    assert heard.shape[1] / SOUND_RATE == pytest.approx(3, abs=1 / 16)
    assert tone(heard, 0.05, 2.95) == pytest.approx((660, 0.4), rel=0.05)


def test_film_is_refused_when_its_track_holds_no_sound(owner: Owner, tmp_path: Path) -> None:
    mute = clip(tmp_path, "mute", (20, 120, 20), frames=24, size=(96, 64), fps=16)
    reference = upload_media(mute, project_id=owner.project_id)
    with pytest.raises(TaskValidationError, match="holds no sound") as refused:
        join(owner, tmp_path, [mute, mute], audio_url=reference)
    assert refused.value.field == "audio_url"


@pytest.mark.parametrize(
    ("change", "field", "match"),
    [
        ({"clips": [{"url": "https://example.com/1.mp4"}]}, "clips", "two or more"),
        ({"loop": True, "per_join_settings": [{}, {}, {}]}, "per_join_settings", "there are 2 joins"),
    ],
)
def test_field_is_named_when_clips_and_joins_do_not_fit(change: dict[str, Any], field: str, match: str) -> None:
    clips = [{"url": f"https://example.com/{i}.mp4"} for i in range(2)]
    with pytest.raises(TaskValidationError, match=match) as refused:
        JoinClipsParams.parse({"clips": clips, **change})
    assert refused.value.field == field
