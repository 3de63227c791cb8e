"""Networks in which every batch norm does something."""

from torch import nn


def randomize_batch_norms(network, min_var=0.5):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, min_var, 1.5)
    return network
