"""`python -m webui [flags]`: opens the page and serves it until Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from trainer.errors import InputError
from webui import settings
from webui.server import serve


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 2 when a flag, the port or a folder must be mended, 1 a failure, 130 Ctrl-C."""
    # Taken out of the environment, so that no job and no TensorBoard inherits the secret.
    token = os.environ.pop("LIKENESS_TOKEN", None)
    try:
        chosen = settings.read(words, token)
        os.environ["LIKENESS_HOME"] = str(chosen.data_dir)  # the engine's cache and presets lie there too
        os.environ["LIKENESS_MODELS"] = os.pathsep.join(map(str, chosen.models[1:]))
        return serve(chosen)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
