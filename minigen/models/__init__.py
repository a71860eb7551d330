"""All models of the lecture, one file each.

`MODELS` lists them: the name, the file and what to call in it, in reading order.
"""

MODELS = {
    "joint": "minigen.models.likelihood.joint:Joint",
    "mixture": "minigen.models.likelihood.mixture:Mixture",
    "autoencoder": "minigen.models.autoencoder.autoencoder:single_hidden",
    "conv_autoencoder": "minigen.models.autoencoder.conv_autoencoder:convolutional",
    "classifier": "minigen.models.autoencoder.classifier:Classifier",
    "lenet": "minigen.models.classifier.lenet:LeNet",
    "derivation": "minigen.models.vae.derivation:LatentModel",
    "vae": "minigen.models.vae.vae:fully_connected",
    "conv_vae": "minigen.models.vae.conv_vae:convolutional",
    "gaussian_vae": "minigen.models.vae.gaussian_vae:diagonal_normal",
    "cvae": "minigen.models.vae.cvae:conditional",
    "gan": "minigen.models.gan.gan:GAN",
    "equilibrium": "minigen.models.gan.equilibrium:optimal_discriminator",
    "dcgan": "minigen.models.gan.dcgan:dcgan",
    "cgan": "minigen.models.gan.cgan:conditional",
    "lsgan": "minigen.models.gan.lsgan:LSGAN",
    "wgan": "minigen.models.gan.wgan:WGAN",
    "wgan_gp": "minigen.models.gan.wgan_gp:wgan_gp",
    "divergences": "minigen.models.gan.divergences:Divergence",
    "fgan": "minigen.models.gan.fgan:FGAN",
    "normal_fit": "minigen.models.gan.normal_fit:players",
    "decoding": "minigen.models.autoregressive.decoding:beam_search",
    "rnn": "minigen.models.autoregressive.rnn:RNN",
    "pixels": "minigen.models.autoregressive.pixels:PixelModel",
    "pixelrnn": "minigen.models.autoregressive.pixelrnn:pixelrnn",
    "pixelcnn": "minigen.models.autoregressive.pixelcnn:pixelcnn",
    "gated_pixelcnn": "minigen.models.autoregressive.gated_pixelcnn:gated_pixelcnn",
    "conditional_pixelcnn": "minigen.models.autoregressive.conditional_pixelcnn:conditional",
    "linear_predictor": "minigen.models.autoregressive.linear_predictor:LinearPredictor",
    "pixelcnn_pp": "minigen.models.autoregressive.pixelcnn_pp:PixelCNNpp",
}
