"""Three small real Qwen2-VL models and the pictures they know, so that the whole loop runs anywhere.

``scenes`` and ``manifests`` draw the pictures, ``lessons`` says what is taught about them,
``checkpoint`` packs and unpacks the weights kept in this folder, ``train`` makes those weights.
"""
