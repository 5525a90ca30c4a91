"""What a network is, measured: capacity, ReLU paths, Fisher information, stiffness, generalization intervals.

Each measure is a module of functions over an ``nn.Module`` and tensors, imported by name:
``from gendyn_lite.measures import capacity``. None of them trains; what trains is passed in.
"""
