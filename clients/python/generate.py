"""Makes `src/credvault/v1/` of `proto/credvault/v1/`, or with `--check` says whether what is there is as it would be.

Wants the versions of `requirements-oldest.txt`: others write other files.
"""

import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
STUBS = HERE / "src" / "credvault" / "v1"
HAND_WRITTEN = {"__init__.py"}


def made(protos: list[Path]) -> dict[str, bytes]:
    """The generated files by their names."""
    # The plug-ins of mypy-protobuf lie beside the interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--{what}_out={folder}" for what in ("python", "grpc_python", "mypy", "mypy_grpc")]
        includes = [f"--proto_path={PROTO}", f"--proto_path={files('grpc_tools') / '_proto'}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs]
        command += [str(proto.relative_to(PROTO)) for proto in protos]
        environment = {**os.environ, "PATH": path}
        ran = subprocess.run(command, cwd=PROTO, env=environment, capture_output=True, text=True)
        if ran.returncode != 0:
            sys.exit(ran.stderr)
        # A file without a service has no stubs, and the compiler writes an empty module for it.
        silent = {f"{proto.stem}_pb2_grpc" for proto in protos if "\nservice " not in proto.read_text()}
        written = Path(folder, "credvault", "v1").iterdir()
        return {file.name: file.read_bytes() for file in written if file.stem not in silent}


def main() -> int:
    wanted = made(sorted((PROTO / "credvault" / "v1").glob("*.proto")))
    there = {file.name: file.read_bytes() for file in STUBS.glob("*.py*") if file.name not in HAND_WRITTEN}
    stale = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    if sys.argv[1:] == ["--check"]:
        for name in stale:
            print(f"{name} is not what the contract says: run clients/python/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for name in there.keys() - wanted.keys():
        (STUBS / name).unlink()
    for name, content in wanted.items():
        (STUBS / name).write_bytes(content)
    print(f"{len(wanted)} files, {len(stale)} of them changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
