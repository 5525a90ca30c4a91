"""Chapter 1: networks memorize random labels, with and without regularizers."""
