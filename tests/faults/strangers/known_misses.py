"""Cases that trainobs gets wrong today, each with the reason. The list may only shrink."""

AT_MOST = 0

KNOWN_MISSES: dict[str, str] = {}
