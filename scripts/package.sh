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
for file in usr/bin/ft usr/share/doc/ft/copyright usr/share/doc/ft/README.md; do
    [ -s "build/package/content/$file" ] || { echo "package: $file is not in it" >&2; exit 1; }
done
build/package/content/usr/bin/ft version | head -n 1
