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
    "schedule": "minigen.models.diffusion.schedule:linear",
    "denoiser": "minigen.models.diffusion.denoiser:denoiser",
    "ddpm": "minigen.models.diffusion.ddpm:DDPM",
    "hierarchical": "minigen.models.diffusion.hierarchical:elbo",
    "empirical": "minigen.models.diffusion.empirical:Empirical",
    "improved_ddpm": "minigen.models.diffusion.improved_ddpm:ImprovedDDPM",
    "ddim": "minigen.models.diffusion.ddim:DDIM",
    "velocity": "minigen.models.diffusion.velocity:Velocity",
    "snr": "minigen.models.diffusion.snr:vlb_weight",
    "frequency": "minigen.models.diffusion.frequency:drowns",
    "exact": "minigen.models.diffusion.exact:Mixture",
    "conditional": "minigen.models.diffusion.conditional:conditional",
    "guidance": "minigen.models.diffusion.guidance:ClassifierFree",
    "noisy_classifier": "minigen.models.diffusion.noisy_classifier:NoisyClassifier",
    "threshold": "minigen.models.diffusion.threshold:dynamic",
}
