"""Stands in for the engine where a test is about the page: a run that takes steps, hears commands, and can fail.

`python tests/engine.py train --run DIR`; what it does is the config's output.comment: "steps=5 wait=0.1 end=done".
holds: the step at which it waits until it is told something; wait: seconds a step; imports: seconds before the first.
end: done, error, crash (no last word), deaf (hears nothing, not even SIGTERM).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer.runfolder import RunFolder
from trainer.terminal import Wish


def main() -> int:
    folder = RunFolder(Path(sys.argv[3]))
    wish = dict(word.split("=") for word in folder.config().output.comment.split())
    steps, wait, end = int(wish.get("steps", 3)), float(wish.get("wait", 0)), wish.get("end", "done")
    holds = int(wish.get("holds", 0))
    time.sleep(float(wish.get("imports", 0)))
    print("GPU", os.environ.get("CUDA_VISIBLE_DEVICES"), "home", os.environ["LIKENESS_HOME"], flush=True)
    if end == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with folder.owned(), Wish().heard() as signals:
        signals.patient = True
        first = max([event["step"] for event in folder.events() if event["kind"] == "step"], default=0)
        folder.event("start", step=first, steps=steps, epochs=1, family="sd15", device="cpu", images=2, batches=steps)
        for step in range(first + 1, steps + 1):
            folder.event("step", step=step, epoch=1, loss=1 / step, average=1 / step, lr={"unet": 1e-3}, rate=1 / 3)
            time.sleep(wait)
            while (command := folder.take_command()) is None and step == holds and not signals.stop:
                time.sleep(0.01)
            if signals.stop or (end != "deaf" and command in ("stop", "pause")):
                folder.event("stopped", step=step, reason=command or "signal")
                return 0
        if end == "crash":
            os._exit(7)
        if end == "error":
            folder.event("error", step=steps, text="data.images: gone", remedy="choose another")
            return 2
        (folder.checkpoints / "zk9.safetensors").write_bytes(b"weights")
        folder.event("checkpoint", step=steps, file="checkpoints/zk9.safetensors", epoch=None)
        folder.event("done", step=steps, files=["checkpoints/zk9.safetensors"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
