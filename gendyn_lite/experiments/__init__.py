"""The wiring: configuration → data, network, probes, training, run folder. One module per chapter."""
