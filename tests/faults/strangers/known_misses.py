"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

AT_MOST = 9

_SECOND = "terms that come through the gradient of an inner tape are not told apart"
_GROWS = "a zero kernel that gets a gradient itself is by design: it will grow"

KNOWN_MISSES: dict[str, str] = {
    "CTC, labels longer than the input": "the layers before the output are named before it",
    "recurrent layer, states that explode": "its terms do not add up, and the output is named",
    "VAE, the divergence outweighs the pixels": "told as pixels that the loss takes no notice of",
    "GAN, minimax loss and a discriminator that is sure": "layers that are not trained here are not seen",
    "WGAN-GP, norm of a gradient that is zero": _SECOND,
    "PointNet, its transformation begins as the identity": _GROWS,
    "residual blocks whose ends start at zero": _GROWS,
    "a language model with tied embeddings": "a table that is a kernel too has further terms",
    "mixed precision, an own loop without loss scaling": "flushed by float16, told as a silent loss",
}
