"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

AT_MOST = 1

KNOWN_MISSES: dict[str, str] = {
    "batch normalisation of a batch of one": "the tanh behind it is named, which hands its zeros on",
}
