"""Neural networks: layers, and the functions that find, save, load and initialise their weights."""

from minigen.nn import initializers
from minigen.nn.conditioned import Conditioned
from minigen.nn.embedding import RandomFourier, Sinusoidal, TimeEmbedding
from minigen.nn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    GroupNorm,
    GroupNormSiLU,
    LayerNorm,
    Linear,
    MultiheadAttention,
    Parameter,
    Sequential,
)
from minigen.nn.masked import MaskedConv2d
from minigen.nn.parameters import (
    EMA,
    astype,
    buffers,
    eval,
    evaluation,
    init,
    like,
    load,
    load_arrays,
    load_state_dict,
    parameters,
    save,
    save_arrays,
    state_dict,
    to,
    train,
    walk,
)
from minigen.nn.recurrent import LSTMCell
from minigen.nn.spectral import SpectralNorm
from minigen.nn.transformer import TransformerBlock, as_maps, mlp, positions
from minigen.nn.unet import (
    AdaGN,
    AddTime,
    DenseMixing,
    ResidualBlock,
    SelfAttention2d,
    SpaceToDepthUNet,
    TimeUNet,
    UNet,
)

__all__ = [
    "AdaGN", "AddTime", "BatchNorm1d", "BatchNorm2d", "Conditioned", "Conv2d", "ConvTranspose2d",
    "DenseMixing", "Dropout", "EMA", "Embedding", "GroupNorm", "GroupNormSiLU", "LSTMCell",
    "LayerNorm", "Linear", "MaskedConv2d", "MultiheadAttention", "Parameter",
    "RandomFourier", "ResidualBlock", "SelfAttention2d", "Sequential", "Sinusoidal",
    "SpaceToDepthUNet", "SpectralNorm", "TimeEmbedding", "TimeUNet", "TransformerBlock", "UNet",
    "as_maps", "astype", "buffers", "eval", "evaluation", "init", "initializers", "like", "load",
    "load_arrays", "load_state_dict", "mlp", "parameters", "positions", "save", "save_arrays",
    "state_dict", "to", "train", "walk",
]
