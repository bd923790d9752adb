// The texts of the page that binds values to their names; a separate file, because no other page needs them.

export const unbound = {
  title: "Bind values to their names",
  lead: "A sealed value states the name under which it was stored, so nobody can put another secret of yours in its place. Values of earlier versions and other clients state no name. People, programs and jobs are refused them, unless their grant allows it.",
  checkAll: "Check all values",
  /** @param {string} label */
  checkOne: (label) => `Check ${label}`,
  receipts: "To check a value, the node opens it for you. Each opening has a receipt under Activity.",
  checking: "Checking",
  /** @param {string} label */
  absent: (label) => `You have no secret ${label}`,
  absentText: "It was deleted, or its name is another.",
  allBoundTitle: "Every value states its name",
  /** @param {number} n */
  allBound: (n) => `${n} ${n === 1 ? "value was" : "values were"} checked, notes included.`,
  /** @param {number} n @param {number} unbound @param {number} refused */
  found: (n, unbound, refused) => `${n} checked: ${unbound} without a name${refused ? `, ${refused} refused` : ""}`,
  /** @param {number} n */
  ofRunner: (n) => `${n} ${n === 1 ? "secret that begins" : "secrets that begin"} with PROTECTED_ ${n === 1 ? "was" : "were"} not checked: only a runner can open them, and the runner binds them.`,
  columns: { select: "Select", name: "Name", stored: "Last stored", writers: "May write", state: "State", actions: "Actions" },
  notStated: "not stated",
  /** @param {string} label */
  noteOf: (label) => `${label}, note`,
  /** @param {string} label */
  select: (label) => `Select ${label}`,
  you: "you alone",
  /** @param {number} n */
  others: (n) => `${n} ${n === 1 ? "other" : "others"}`,
  states: { unbound: "no name", twin: "stored twice", refused: "refused", changed: "changed", bound: "bound" },
  look: "Look",
  /** @param {string} label */
  lookAt: (label) => `Look at ${label}`,
  written: "Last changed, as its writer states",
  writtenLater: "Shown with the value",
  writers: "Others who may write it",
  noWriters: "No live grant to others is listed.",
  whoWrote: "The node does not record who stored a value.",
  twinTitle: "The same sealed value is or was stored elsewhere",
  /** @param {string} paths */
  twinText: (paths) => `It is or was also at ${paths}. Somebody copied it, so it may belong there. It cannot be bound: store the right value of each name again.`,
  /** @param {number} n */
  bind: (n) => `Bind ${n} ${n === 1 ? "value" : "values"}`,
  bindText: "The values stay as they are, and state their names from now on. Whoever has a grant for one of these names can then open its value, and the copies that people have are renewed. Continue only if you looked at each value that others may have stored.",
  compared: "They were compared with all sealed values that this node has recorded, former ones too.",
  binding: "Binding",
  /** @param {number} n */
  done: (n) => `${n} ${n === 1 ? "value is" : "values are"} bound`,
};
