#!/usr/bin/env bash
# install-deps.sh [--arm] – what a fresh Debian or Ubuntu needs to build and check ft.  Does nothing when it is all there.
# --arm: what scripts/test.sh --arm needs: the cross compiler and qemu-user, and build/arm64-root with the libraries of
# an arm64 Debian.  The latter come from the machine's own sources and are unpacked into the folder by an apt with a state
# of its own: the machine's packages and architectures stay as they are.
set -euo pipefail

packages=(gcc libc6-dev cmake ninja-build pkg-config clang clang-format clang-tidy cppcheck
          libclang-rt-dev llvm xz-utils
          libopenblas-pthread-dev libcjson-dev libcmocka-dev zlib1g-dev libzstd-dev libpcre2-dev libutf8proc-dev
          libedit-dev libyaml-dev libcurl4-openssl-dev strace perl locales dpkg-dev
          zstd time python3 util-linux)
root=
case ${1:-} in
'') ;;
--arm)
    packages=(gcc libc6-dev cmake ninja-build pkg-config gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
    root=$(cd "$(dirname "$0")/.." && pwd)/build/arm64-root
    ;;
*) echo "usage: scripts/install-deps.sh [--arm]" >&2; exit 64 ;;
esac

arm_root() {
    local apt=$root.apt o
    local wanted="libc6-dev libgcc-s1 libcjson-dev libcmocka-dev zlib1g-dev libzstd-dev libpcre2-dev"
    wanted+=" libutf8proc-dev libedit-dev libyaml-dev libcurl4-openssl-dev"
    [ "$(cat "$root/complete" 2>/dev/null)" = "$wanted" ] && return
    rm -rf "$root" "$apt"
    mkdir -p "$root" "$apt/state/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    o=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false
       -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o Debug::NoLocking=1)
    apt-get "${o[@]}" update -q
    # shellcheck disable=SC2086
    apt-get "${o[@]}" install -q -y --download-only $wanted
    for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
    rm -rf "$apt"
    echo "$wanted" >"$root/complete"
}

missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
    [ -z "$root" ] || arm_root
    exit
fi

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
[ -z "$root" ] || arm_root
