"""Measures of networks: capacity, ReLU paths, Fisher information, stiffness, generalization intervals, complexity.

Each measure is a module of functions of an ``nn.Module`` and tensors, which is imported by name:
``from gendyn_lite.measures import capacity``. No measure trains a network; functions that train are passed in.
"""
