"""A tiny TFDS data set for the tests of the TFDS source."""
