//! What the end-to-end suites share: the binaries under test and the images they run.
