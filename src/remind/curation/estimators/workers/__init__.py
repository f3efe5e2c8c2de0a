"""Scripts that run inside other tools' environments. They import numpy, the tool and `worker_loop`, never ReMind.

Copy this folder wherever a tool lives; `python depth_anything3_worker.py --contract` says what it speaks.
"""
