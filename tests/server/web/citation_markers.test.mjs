// Which brackets are citations: the same as the server finds.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pieces } from "../../../server/web/citation_markers.js";

const THREE = [1, 2, 3];
for (const [text, expected] of [
  ["At nine. [1]", ["At nine. ", [1]]],
  ["[1][2] both", [[1], [2], " both"]],
  ["[1, 2]; [1-3] and [ 2 ; 3 ]", [[1, 2], "; ", [1, 2, 3], " and ", [2, 3]]],
  ["[1\u20132]", [[1, 2]]],
  ["[2, 2]", [[2]]],
  ["[4] [0] [1,9] [3-1] [1-9999] [x] [01]", ["[4] [0] [1,9] [3-1] [1-9999] [x] [01]"]],
  ["", []],
]) {
  test(JSON.stringify(text), () => assert.deepEqual(pieces(text, THREE), expected));
}
