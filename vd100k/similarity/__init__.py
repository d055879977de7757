"""Finding copies of images: resized, compressed again, cropped, brightened, grey or blurred.

Start with ``clusters``, which says which images of a collection are copies of each other. ``look`` reduces an image
to hashes and a thumbnail, ``cache`` keeps them, ``search`` finds pairs with similar hashes without comparing all
pairs, ``alignment`` compares their thumbnails, and ``confirm`` their pixels. ``leaks`` looks for held-out images
among training images.
"""
