#!/usr/bin/env bash
# install-deps.sh – what a fresh Debian or Ubuntu needs to build and check ft.  Does nothing when it is all there.
set -euo pipefail

packages=(gcc libc6-dev cmake ninja-build pkg-config clang clang-format
          libopenblas-pthread-dev libcjson-dev libcmocka-dev zlib1g-dev libpcre2-dev libutf8proc-dev)

missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "install-deps: missing ${missing[*]}; run this as root" >&2; exit 1; }
    as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
install() { ${as_root[@]+"${as_root[@]}"} apt-get install -y --no-install-recommends "${missing[@]}"; }

echo "install-deps: installing ${missing[*]}"
if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; then
    ${as_root[@]+"${as_root[@]}"} apt-get update -q
fi
# Lists that are there may be older than the mirror.
install || { ${as_root[@]+"${as_root[@]}"} apt-get update -q && install; }
