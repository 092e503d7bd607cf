"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

AT_MOST = 10

_SECOND = "terms that come through the gradient of an inner tape are not told apart"
_GROWS = "a zero kernel that gets a gradient itself is by design: it will grow"

KNOWN_MISSES: dict[str, str] = {
    "all hidden weights are the same": "equal units are called zero weights",
    "CTC, labels longer than the input": "the layers before the output are named before it",
    "attention, the softmax has one element": "told as saturated by inputs that are too large",
    "recurrent layer, states that explode": "its terms do not add up, and the output is named",
    "VAE, the divergence outweighs the pixels": "told as pixels that the loss takes no notice of",
    "GAN, minimax loss and a discriminator that is sure": "layers that are not trained here are not seen",
    "WGAN-GP, norm of a gradient that is zero": _SECOND,
    "PointNet, its transformation begins as the identity": _GROWS,
    "residual blocks whose ends start at zero": _GROWS,
    "a language model with tied embeddings": "a table that is a kernel too has further terms",
}
