#!/usr/bin/env bash
# package.sh [--try] – builds the .deb (build/package/ft_VERSION_ARCH.deb) and looks at what is in it.
# --try also installs it into a fresh Debian 12 (debootstrap, build/package/root; as root, from the machine's own sources),
# and goes a newcomer's way there.
set -euo pipefail
cd "$(dirname "$0")/.."
try=false
case ${1:-} in
'') ;;
--try) try=true ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
*) echo "usage: scripts/package.sh [--try]" >&2; exit 64 ;;
esac
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)

cmake --preset release ${launcher[@]+"${launcher[@]}"} >/dev/null
cmake --build build/release -j "$(nproc)" | tail -n 1
mkdir -p build/package
rm -f build/package/*.deb
(cd build/release && cpack -G DEB -B ../package >../package/cpack.log 2>&1) || { cat build/package/cpack.log; exit 1; }
rm -rf build/package/_CPack_Packages
deb=$(ls build/package/*.deb)
dpkg-deb -f "$deb" Package Version Architecture Depends Installed-Size

rm -rf build/package/content
dpkg-deb -x "$deb" build/package/content
for file in bin/ft share/doc/ft/copyright share/doc/ft/README.md share/man/man1/ft.1 share/man/man1/ft-train.1 \
    share/bash-completion/completions/ft share/zsh/site-functions/_ft share/fish/vendor_completions.d/ft.fish; do
    [ -s "build/package/content/usr/$file" ] || { echo "package: $file is not in it" >&2; exit 1; }
done
build/package/content/usr/bin/ft version | head -n 1
$try || exit 0

# --- a newcomer's way, where nothing of this machine's is installed
root=build/package/root
[ "$(id -u)" = 0 ] || { echo "package: --try needs root" >&2; exit 77; }
command -v debootstrap >/dev/null || { echo "package: --try needs debootstrap (apt-get install debootstrap)" >&2; exit 66; }
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } | sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm .*/\2/p' | head -n 1)
rm -rf "$root"
debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} >build/package/debootstrap.log ||
    { tail -n 5 build/package/debootstrap.log; exit 1; }
if [ -d /etc/apt/sources.list.d ] && [ -n "$(ls /etc/apt/sources.list.d)" ]; then
    : >"$root/etc/apt/sources.list"
    cp -r /etc/apt/sources.list.d/. "$root/etc/apt/sources.list.d/"
fi
cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp "$deb" "$root/tmp/ft.deb"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
inside apt-get update -q >build/package/apt.log 2>&1
inside apt-get install -y --no-install-recommends /tmp/ft.deb perl >>build/package/apt.log 2>&1 || { tail -n 5 build/package/apt.log; exit 1; }
inside ft version | head -n 1
mkdir -p "$root/src/data" "$root/src/scripts" # perl and these are for the stand-in of the hub and for the test, not for ft
cp -r README.md tests "$root/src/"
cp -r data/tiny data/text "$root/src/data/"
inside bash /src/tests/cli_tour.sh /usr/bin/ft /src
inside sh -c 'ls /usr/share/man/man1/ft*.1 | wc -l; ls /usr/share/bash-completion/completions/ft /usr/share/zsh/site-functions/_ft /usr/share/fish/vendor_completions.d/ft.fish'
rm -rf "$root"
