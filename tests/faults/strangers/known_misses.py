"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

AT_MOST = 26

_SCALE = "nothing saturates yet, so that the scale of what the kernel reads is not told"
_BEFORE = "a NaN of the backward pass of a layer without weights is told at the layer before it"
_SECOND = "terms that come through the gradient of an inner tape are not told apart"
_FROZEN = "frozen weights only inform, though the optimizer was given none at all"
_GROWS = "a zero kernel that gets a gradient itself is by design: it will grow"

KNOWN_MISSES: dict[str, str] = {
    "features in the hundreds": _SCALE,
    "features in the thousands, a loss that stays at 7": _SCALE,
    "convnet of raw pixels": _SCALE,
    "prices of houses in dollars, squared error": "a gradient at the output of 1e5 is not told",
    "all hidden weights are the same": "equal units are called zero weights",
    "ten classes, a sigmoid and categorical crossentropy": "nothing is clipped, so that the pair is not seen",
    "square root of ReLU features": _BEFORE,
    "siamese net, equal pairs under a square root": _BEFORE,
    "own normalisation, zero rows under tf.where": _BEFORE,
    "CTC, labels longer than the input": "the layers before the output are named before it",
    "attention, the softmax has one element": "told as saturated by inputs that are too large",
    "recurrent layer, states that explode": "its terms do not add up, and the output is named",
    "VAE, the divergence outweighs the pixels": "told as pixels that the loss takes no notice of",
    "GAN, the discriminator is frozen when it is compiled": _FROZEN,
    "transfer learning, everything is frozen": _FROZEN,
    "GAN, minimax loss and a discriminator that is sure": "layers that are not trained here are not seen",
    "WGAN-GP, the critic's step": _SECOND,
    "WGAN-GP, norm of a gradient that is zero": _SECOND,
    "PINN of Poisson's equation": _SECOND,
    "eikonal equation": _SECOND,
    "PointNet, its transformation begins as the identity": _GROWS,
    "residual blocks whose ends start at zero": _GROWS,
    "LoRA": "the kind of layer is not known, and A starts behind a B of zeros",
    "spiking net, a hard threshold": "a cut within a loop, told as a silent loss",
    "a language model with tied embeddings": "a table that is a kernel too has further terms",
    "mixed precision, an own loop without loss scaling": "flushed by float16, told as a silent loss",
}
