"""torch in a process of its own: the same result, errors as they are, tried again when it is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from retrieval.describe.chunk import extract_chunk
from retrieval.describe.images import UnreadablePhotograph
from retrieval.describe.options import ExtractionOptions, ExtractionResources
from retrieval.networks.make import make_network
from retrieval.networks.options import NetworkOptions
from storage.children.child import Child
from storage.children.errors import ChildKilled
from tasks.engine import torch_process

HERE = "tests.tasks.engine.test_torch_process"
EXTRACT = "retrieval.describe.chunk:extract_chunk"


def pid() -> int:
    return os.getpid()


def die(tries: Path, watch: Callable[[str], None]) -> int:
    tries.write_text(tries.read_text() + "x")
    watch("1 2")
    if len(tries.read_text()) < 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that does not hold torch, with a child of its own."""
    monkeypatch.setattr(torch_process, "sys", type(sys)("sys"))
    monkeypatch.setattr(torch_process.sys, "modules", {}, raising=False)
    monkeypatch.setattr(torch_process, "_CHILD", Child("work with torch", idle_s=1000.0))


def test_one_process_until_it_is_ended(without_torch: None) -> None:
    first = torch_process.with_torch(f"{HERE}:pid")
    assert first != os.getpid() and torch_process.with_torch(f"{HERE}:pid") == first
    torch_process.end_torch_process()
    assert not psutil.pid_exists(first)


def test_a_killed_process_is_tried_again_and_then_the_work_fails(without_torch: None, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    tries.write_text("")
    with pytest.raises(ChildKilled, match=r"^work with torch: .*SIGKILL") as killed:
        torch_process.with_torch(f"{HERE}:die", tries)
    assert killed.value.at == "1 2" and tries.read_text() == "xxx"
    tries.write_text("xx")
    assert torch_process.with_torch(f"{HERE}:die", tries) != os.getpid()
    torch_process.end_torch_process()


def test_the_same_descriptors_and_the_same_error(without_torch: None, tmp_path: Path) -> None:
    network, options = tmp_path / "n.safetensors", ExtractionOptions(image_size=64)
    make_network(NetworkOptions(backbone="squeezenet1_1", weights="random"), out=network)
    photograph = Path(__file__).parents[3] / "docs" / "town.png"
    here, there, news = tmp_path / "here.h5", tmp_path / "there.h5", list[tuple[int, int]]()
    what = (network, [("a", photograph)], options)
    one = ExtractionResources(device="cpu", threads=1)
    facts = extract_chunk(*what, out=here, resources=one)
    again = torch_process.with_torch(
        EXTRACT, *what, out=there, resources=one, on_news=lambda *each: news.append(each)
    )
    assert facts == again and news == [(1, 1)]
    assert here.read_bytes() == there.read_bytes()
    with pytest.raises(UnreadablePhotograph, match=r"test_torch_process\.py"):
        torch_process.with_torch(EXTRACT, network, [("a", Path(__file__))], options, out=there)
    torch_process.end_torch_process()


def test_torch_stays_out_of_a_process_that_has_it_not() -> None:
    code = (
        "import sys, tasks.describing\n"
        "from tasks.engine.torch_process import with_torch, end_torch_process, start_torch_process\n"
        "start_torch_process()\n"
        f"there = with_torch('{HERE}:pid')\n"
        "import os; assert there != os.getpid() and 'torch' not in sys.modules\n"
        "end_torch_process()\n"
        f"import torch; assert with_torch('{HERE}:pid') == os.getpid()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(torch_process.__file__).parents[2], check=True)
