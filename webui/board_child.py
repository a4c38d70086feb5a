"""The process of TensorBoard: `python -m webui.board_child RUNS PREFIX`. Says its port; ends when its input does."""

from __future__ import annotations

import os
import sys
import threading


def main() -> None:
    """Serves a folder of runs on 127.0.0.1 until standard input is closed, as it is when the page's server dies."""
    # Before the import, which takes a second or more: the server may be gone by then.
    watch = threading.Thread(target=_end_with_input, daemon=True)
    watch.start()

    from tensorboard import program

    board = program.TensorBoard()
    runs, prefix = sys.argv[1:]
    # A port that the system chooses, and that only our parent is told, so that nobody can take it before us.
    board.configure(
        argv=[
            "",
            "--logdir",
            runs,
            "--path_prefix",
            prefix,
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--reload_interval",
            "5",
        ]
    )
    address = board.launch()
    print(address.rstrip("/").removesuffix(prefix).rpartition(":")[2], flush=True)
    watch.join()


def _end_with_input() -> None:
    """Ends the process at the end of input; TensorBoard's own data server ends with it, by the same means."""
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
