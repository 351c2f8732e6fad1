# package.cmake – what `cmake --install` puts where, and `cpack -G DEB` into one package of it. dpkg-shlibdeps finds the
# libraries that the program is linked with; those it opens by name stand here: libcurl, without which there is no ft fetch,
# and OpenBLAS, which only CPUs without AVX2 gain from.
install(FILES README.md SECURITY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ft)
set(CPACK_PACKAGE_CONTACT "The ft maintainers <ft@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "fine-tunes language models on a CPU, without Python")
set(CPACK_PACKAGE_DESCRIPTION
  "A Hugging Face folder or a GGUF file goes in; a PEFT adapter, a Hugging Face folder or a GGUF file comes out.
 Training (full, LoRA, QLoRA, BitFit, prompt tuning) is the same to the bit every time and may be killed at any instant.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libcurl4")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libopenblas0-pthread")
include(CPack)
