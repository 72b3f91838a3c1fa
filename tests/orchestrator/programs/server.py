"""Any program: listens on $PORT by itself and knows nothing of its supervisor."""

import http.server
import os
import sys

print("listening soon", flush=True)
server = http.server.HTTPServer(
    (os.environ["HOST"], int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler
)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
