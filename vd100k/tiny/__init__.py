"""Three tiny but real Qwen2-VL models and the pictures they are trained on, so that all stages run on any machine.

``scenes`` and ``manifests`` draw the pictures, ``lessons`` holds the questions and answers about them, ``checkpoint``
packs and unpacks the weights in this folder, and ``train`` trains them. ``random_checkpoint`` makes an untrained model
of each Qwen-VL family.
"""
