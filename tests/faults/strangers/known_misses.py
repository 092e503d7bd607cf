"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

KNOWN_MISSES: dict[str, str] = {}
