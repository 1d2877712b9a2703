// Filters: the expression above the plots, and the short form in the table's head. Both become functions of a row.

const TOKEN =
  /\s*(?:(-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])|"([^"]*)"|'([^']*)'|`([^`]*)`|(<=|>=|==|!=|[<>=~()])|([^\s<>=~!()"'`]+))/y;

function tokensOf(text) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  let at = 0;
  while (text.slice(at).trim()) {
    const match = TOKEN.exec(text);
    if (!match) throw new Error(`cannot read “${text.slice(at).trim().slice(0, 20)}”`);
    at = TOKEN.lastIndex;
    const [, number, double, single, name, sign, word] = match;
    if (number !== undefined) tokens.push({ kind: "value", value: Number(number), text: number });
    else if (double !== undefined || single !== undefined)
      tokens.push({ kind: "value", value: double ?? single, text: double ?? single });
    else if (name !== undefined) tokens.push({ kind: "name", text: name });
    else if (sign !== undefined) tokens.push({ kind: sign === "=" ? "==" : sign, text: sign });
    else tokens.push({ kind: ["and", "or", "not"].includes(word) ? word : "name", text: word });
  }
  return tokens;
}

// or → and → not → comparison; returns row => boolean, throws an Error that says what is wrong.
function testOf(text) {
  const input = { tokens: tokensOf(text), at: 0 };
  if (!input.tokens.length) return null;
  const test = readOr(input);
  if (input.at < input.tokens.length)
    throw new Error(`“${input.tokens[input.at].text}” is not expected here; join with and, or`);
  return test;
}

// Takes the next token if it is of this kind.
function took(input, kind) {
  if (input.tokens[input.at]?.kind !== kind) return false;
  input.at++;
  return true;
}

function readOr(input) {
  const tests = [readAnd(input)];
  while (took(input, "or")) tests.push(readAnd(input));
  return (row) => tests.some((test) => test(row));
}

function readAnd(input) {
  const tests = [readNot(input)];
  while (took(input, "and")) tests.push(readNot(input));
  return (row) => tests.every((test) => test(row));
}

function readNot(input) {
  if (took(input, "not")) {
    const inner = readNot(input);
    return (row) => !inner(row);
  }
  if (!took(input, "(")) return readComparison(input);
  const inner = readOr(input);
  if (!took(input, ")")) throw new Error("a bracket is not closed");
  return inner;
}

function readComparison(input) {
  const left = operand(input.tokens[input.at++], true);
  const sign = ["<", "<=", ">", ">=", "==", "!=", "~"].find((kind) => took(input, kind));
  if (sign) return compared(left, sign, operand(input.tokens[input.at++], false));
  if (left.truth) return left.truth;
  throw new Error(`“${left.text}” needs a comparison, e.g. ${left.text} < 10`);
}

function operand(token, mustBeKnown) {
  if (!token || !["name", "value"].includes(token.kind))
    throw new Error(token ? `“${token.text}” is not expected here` : "something is missing at the end");
  if (token.kind === "value") return { text: token.text, of: () => token.value };
  const name = token.text,
    column = store.columns.get(name);
  if (column) return { text: name, of: column.words ? (row) => column.text(row) : (row) => column.values[row] };
  if (name === "front") return { text: name, of: (row) => store.front[row], truth: (row) => store.front[row] === 1 };
  if (name === "hash") return { text: name, of: (row) => store.hashes[row] };
  if (name === "error") return { text: name, of: (row) => store.errors[row] ?? "" };
  if (!mustBeKnown) return { text: name, of: () => name }; // a bare word
  const near = nearest(name);
  throw new Error(`there is no column “${name}”${near ? `; did you mean ${near}?` : ""}`);
}

function compared(left, sign, right) {
  const numbers = (a, b) => typeof a === "number" && typeof b === "number";
  const equal = (a, b) => (numbers(a, b) ? a === b : String(a) === String(b));
  const amount = (value) => (typeof value === "number" ? value : value === "" ? NaN : Number(value));
  const test = {
    "<": (a, b) => amount(a) < amount(b),
    "<=": (a, b) => amount(a) <= amount(b),
    ">": (a, b) => amount(a) > amount(b),
    ">=": (a, b) => amount(a) >= amount(b),
    "==": equal,
    "!=": (a, b) => !equal(a, b),
    "~": (a, b) => String(a).toLowerCase().includes(String(b).toLowerCase()),
  }[sign];
  return (row) => test(left.of(row), right.of(row));
}

// The column whose name is nearest by letters to change, within a third of its length.
function nearest(name) {
  let best = "",
    least = Infinity;
  for (const known of [...store.columns.keys(), "front", "hash", "error"]) {
    const cost = known.endsWith(`.${name}`) || known.startsWith(name) ? 0 : distance(known, name);
    if (cost < least) [best, least] = [known, cost];
  }
  return least <= Math.max(2, name.length / 3) ? best : "";
}

function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length];
}

// The short form for one column: "16", "4, 8", ">= 0.9", "1 .. 20", or part of a word. Null where there is nothing to test.
function cellTest(column, text) {
  const parts = text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
  if (!parts.length) return null;
  const tests = parts.map((part) => {
    const range = /^(\S+)\s*\.\.\s*(\S+)$/.exec(part),
      sign = /^(<=|>=|==|!=|<|>|=)\s*(.+)$/.exec(part);
    const value = column.words ? (row) => Number(column.text(row) || NaN) : (row) => column.values[row];
    if (range && !Number.isNaN(Number(range[1])) && !Number.isNaN(Number(range[2])))
      return (row) => value(row) >= Number(range[1]) && value(row) <= Number(range[2]);
    if (sign && !Number.isNaN(Number(sign[2])))
      return compared({ of: value }, sign[1] === "=" ? "==" : sign[1], { of: () => Number(sign[2]) });
    if (!column.words && !Number.isNaN(Number(part))) return (row) => column.values[row] === Number(part);
    return (row) => column.text(row).toLowerCase().includes(part.toLowerCase());
  });
  return (row) => tests.some((test) => test(row));
}
