"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

AT_MOST = 3

KNOWN_MISSES: dict[str, str] = {
    "all hidden weights are the same": "equal units are called zero weights",
    "attention, the softmax has one element": "told as saturated by inputs that are too large",
    "mixed precision, an own loop without loss scaling": "flushed by float16, told as a silent loss",
}
