"""Says what to install where PyTorch or JAX is missing. Imports nothing that could be missing itself."""
import pathlib
import sys
from typing import NoReturn

VERSIONS = pathlib.Path(__file__).resolve().parent.parent.parent / "versions.env"


def refuse(error: ModuleNotFoundError, pinned: str = "TORCH") -> NoReturn:
    line = next(line for line in VERSIONS.read_text(encoding="utf-8").splitlines() if line.startswith(f"{pinned}="))
    pins = line.split("=", 1)[1].strip('"')
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {error}. It needs: python3 -m pip install {pins}")
