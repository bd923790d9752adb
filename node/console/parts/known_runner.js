// The runner of the last visit: another one gets nothing.
import { failed } from "../texts.js";
import { failedAtRunner } from "../texts_generated.js";
import { ConsoleError } from "../wire/errors.js";
import { look } from "../wire/runner.js";
import { knownNode, runnerUrl } from "./known_node.js";

export const RUNNER = "sealspace.runner"; // the storage key of its DID

// Only modules that load this one report these errors, so pages without it do not load their texts.
Object.assign(failed.words, failedAtRunner.words);
Object.assign(failed.hints, failedAtRunner.hints);

/** @returns {Promise<import("../wire/runner.js").Runner>} the same as at the last visit, or ConsoleError `runner-changed`: the page signs nothing for another runner */
export async function known() {
  const found = await look(runnerUrl);
  const change = knownNode(found.did, RUNNER);
  if (change) throw new ConsoleError("runner-changed", "another runner answered", { details: { change } });
  return found;
}
