"""For all tests: Ctrl-C is Ctrl-C.

Whoever starts the tests in the background of a script has SIGINT ignored, and every child of theirs inherits that: then
nothing that ends, or is ended, by it would.
"""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
