"""Whether an image file can be sent unchanged, decided from its header without decoding it.

Pillow decides for the images that this module does not recognise. For a hundred thousand small files, opening each
with Pillow costs as much processor time as sending it.
"""

from __future__ import annotations

JPEG_END = b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
# Segments that may rotate the image or hold a second one: EXIF and XMP (APP1), MPF (APP2).
APP1, APP2, MPF = 0xE1, 0xE2, b"MPF\0"
TURNED, TRANSPARENT, ANIMATED = b"eXIf", b"tRNS", b"acTL"
GREY, RGB = 0, 2


def plain(content: bytes) -> tuple[str, int, int] | None:
    """The MIME type, width and height of a complete, plain JPEG or PNG of 8-bit grey or RGB.

    None if it is anything else, or cannot be decided from the header.
    """
    try:
        if content.startswith(b"\xff\xd8") and content.endswith(JPEG_END):
            return _jpeg(content)
        if content.startswith(PNG_START) and content.endswith(PNG_END):
            return _png(content)
    except IndexError:
        pass
    return None


def _jpeg(content: bytes) -> tuple[str, int, int] | None:
    at = 2
    while content[at] == 0xFF:
        marker, size = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in FRAMES:
            height, width = (int.from_bytes(content[at + k : at + k + 2], "big") for k in (5, 7))
            plain = content[at + 4] == 8 and content[at + 9] in (1, 3) and width and height
            return ("image/jpeg", width, height) if plain else None
        if marker == APP1 or (marker == APP2 and content[at + 4 : at + 8] == MPF) or not 0xC4 <= marker <= 0xFE:
            return None
        at += 2 + size
    return None


def _png(content: bytes) -> tuple[str, int, int] | None:
    width, height = (int.from_bytes(content[k : k + 4], "big") for k in (16, 20))
    if content[24] != 8 or content[25] not in (GREY, RGB) or not width or not height:
        return None
    at = 8
    while (kind := content[at + 4 : at + 8]) != b"IDAT":
        if kind in (TURNED, TRANSPARENT, ANIMATED):
            return None
        at += 12 + int.from_bytes(content[at : at + 4], "big")
        if at >= len(content):
            return None
    return "image/png", width, height
