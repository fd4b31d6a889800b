"""torch in a process of its own: the same result, errors as they are, no process left behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from retrieval.extraction import ExtractionOptions, ExtractionResources
from retrieval.images import UnreadablePhotograph
from retrieval.network_options import NetworkOptions, make_network
from retrieval.watched import extract
from tasks import torch_process
from tasks.torch_process import TorchProcess, TorchProcessLost

HERE = "tests.tasks.test_torch_process"
NEVER_S = 1000.0


def pid(*, watch: Callable[[str], None]) -> int:
    watch("1 2")
    return os.getpid()


def has_torch(*, watch: Callable[[str], None]) -> tuple[int, bool]:
    return os.getpid(), "torch" in sys.modules


def pid_and_wait(*, watch: Callable[[str], None]) -> None:
    watch("1 2")
    signal.pause()


def die(*, watch: Callable[[str], None]) -> None:
    watch("1 2")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def apart() -> Iterator[TorchProcess]:
    process = TorchProcess(NEVER_S)
    yield process
    process.end()


def test_one_process_until_it_ends(apart: TorchProcess) -> None:
    news: list[str] = []
    first = apart.call(f"{HERE}:pid", on_news=news.append)
    assert first != os.getpid() and apart.call(f"{HERE}:pid", on_news=news.append) == first
    assert news == ["1 2", "1 2"]
    apart.end()
    assert not psutil.pid_exists(first)
    assert apart.call(f"{HERE}:pid", on_news=news.append) != first


def test_started_ahead_it_takes_the_first_call(apart: TorchProcess) -> None:
    apart.start()
    assert apart._worker._process is not None
    started = apart._worker._process.pid
    assert apart.call(f"{HERE}:has_torch", on_news=print) == (started, True)


def test_started_ahead_in_vain_it_ends_when_idle() -> None:
    process = TorchProcess(NEVER_S)
    process.start(ready_s=0.0)
    assert process._timer is not None
    process._timer.join(30)
    assert process._worker._process is None


def test_it_ends_when_idle() -> None:
    process = TorchProcess(0.0)
    first = psutil.Process(process.call(f"{HERE}:pid", on_news=print))
    psutil.wait_procs([first], timeout=30)
    assert not first.is_running()
    process.end()


def test_a_lost_process_is_worth_another_try(apart: TorchProcess) -> None:
    with pytest.raises(TorchProcessLost, match=r"die: .*SIGKILL.*at 1 2"):
        apart.call(f"{HERE}:die", on_news=print)
    assert apart.call(f"{HERE}:pid", on_news=print) != os.getpid()


@pytest.mark.parametrize("why", [KeyboardInterrupt, BrokenPipeError])
def test_an_interrupted_call_leaves_no_answer_behind(apart: TorchProcess, why: type[BaseException]) -> None:
    """BrokenPipeError: whoever read the progress has gone; the process itself is well."""

    def interrupt(_: str) -> None:
        raise why

    with pytest.raises(why):
        apart.call(f"{HERE}:pid_and_wait", on_news=interrupt)
    asked = [apart.call(f"{HERE}:pid", on_news=print) for _ in range(2)]
    assert asked[0] == asked[1]


def test_calls_from_several_threads_come_one_by_one(apart: TorchProcess) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(apart.call(f"{HERE}:pid", on_news=print)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_the_same_descriptors_and_the_same_error(apart: TorchProcess, tmp_path: Path) -> None:
    network, options = tmp_path / "n.safetensors", ExtractionOptions(image_size=64)
    make_network(NetworkOptions(backbone="squeezenet1_1", weights="random"), out=network)
    photograph = Path(__file__).parents[2] / "docs" / "town.png"
    here, there, news = tmp_path / "here.h5", tmp_path / "there.h5", list[str]()
    what = (network, [("a", photograph)], options)
    one = ExtractionResources(device="cpu", threads=1)
    facts = extract(*what, out=here, resources=one, watch=lambda _: None)
    again = apart.call("retrieval.watched:extract", *what, out=there, resources=one, on_news=news.append)
    assert facts == again and news == ["1 1"]
    assert here.read_bytes() == there.read_bytes()
    with pytest.raises(UnreadablePhotograph, match=r"test_torch_process\.py"):
        apart.call(
            "retrieval.watched:extract", network, [("a", Path(__file__))], options, out=there, on_news=print
        )


def test_torch_stays_out_of_a_process_that_has_it_not() -> None:
    code = (
        "import sys, tasks.describing\n"
        "from tasks.torch_process import with_torch, end_torch_process\n"
        f"there = with_torch('{HERE}:pid')\n"
        "import os; assert there != os.getpid() and 'torch' not in sys.modules\n"
        "end_torch_process()\n"
        f"import torch; assert with_torch('{HERE}:pid') == os.getpid()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(torch_process.__file__).parents[1], check=True)
