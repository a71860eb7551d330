"""The captions of scenes.py in Esperanto, where the words for an object have the same order."""

ESPERANTO = {
    "a": "", "small": "malgranda", "large": "granda", "red": "ruĝa", "orange": "oranĝa",
    "yellow": "flava", "green": "verda", "blue": "blua", "purple": "purpura", "circle": "cirklo",
    "square": "kvadrato", "triangle": "triangulo", "cross": "kruco", "ring": "ringo", "and": "kaj",
    "above": "super", "below": "sub", "left of": "maldekstre de", "right of": "dekstre de",
    "left": "maldekstre", "right": "dekstre", "on the left": "maldekstre",
    "on the right": "dekstre", "in the middle": "meze", "in the top": "supre",
    "at the top": "supre", "in the bottom": "malsupre", "at the bottom": "malsupre",
    "on a dark background": "sur malhela fono", "on a light background": "sur hela fono"}


def esperanto(caption):
    """A caption translated into Esperanto, from left to right, always the longest known phrase."""
    words, translated = caption.split(), []
    while words:
        n = next(n for n in (4, 3, 2, 1) if " ".join(words[:n]) in ESPERANTO)
        translated += ESPERANTO[" ".join(words[:n])].split()
        words = words[n:]
    return " ".join(translated)
