"""ClickHouse's engine (chdb) behind as much of its HTTP interface as an insert needs: POST /?query=... with data in the
body. Tests only. Prints its port, then serves until it is killed. Argument: the directory of the database."""

import http.server
import os
import re
import sys
import tempfile
import urllib.parse

from chdb import session

database = session.Session(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["query"][0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            insert = re.match(r"(INSERT INTO .*) FORMAT (\w+)$", query, re.S)
            if insert:
                with tempfile.NamedTemporaryFile(delete=False) as file:
                    file.write(body)
                answer = database.query(f"{insert[1]} FROM INFILE '{file.name}' FORMAT {insert[2]}")
                os.unlink(file.name)
            else:
                answer = database.query(query)
            code, text = 200, answer.bytes() if answer is not None else b""
        except Exception as error:
            found = re.search(r"Code: (\d+)", str(error))
            code, text = 500, str(error).encode()
        self.send_response(code)
        if code != 200 and found:
            self.send_header("X-ClickHouse-Exception-Code", found[1])
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
