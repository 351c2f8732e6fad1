# Cross build for aarch64 Linux with Debian's compiler. Headers and libraries of the target come from a folder of their
# own (scripts/install-deps.sh --arm fills it), so no package of the host is touched. Tests run under qemu-user with
# every feature that it has.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
get_filename_component(FT_ARM64_ROOT "${CMAKE_CURRENT_LIST_DIR}/../build/arm64-root" ABSOLUTE)
set(CMAKE_SYSROOT "${FT_ARM64_ROOT}")
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${FT_ARM64_ROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${FT_ARM64_ROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${FT_ARM64_ROOT}/usr/share/pkgconfig")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu max -L "${FT_ARM64_ROOT}")
