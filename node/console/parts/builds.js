// Where programs were built: as their developers state it, and as the owner's command verified it.
import { h } from "../elements.js";
import { builds as words } from "../texts.js";
import { quoted } from "./quoted.js";

/**
 * @import { Build, RunStatement } from "../wire/builds.js"
 */

const MEMBERS = /** @type {const} */ (["repository", "ref", "commit", "workflow"]);

/** Rows of a developer's statement. @param {Build | undefined} build @returns {[string, import("../elements.js").Child][]} */
export const buildFacts = (build) => (build ? MEMBERS.map((member) => [words[member], h("code", {}, build[member])]) : [[words.repository, words.nothingStated]]);

/** The labels of a run grant, each once. @param {Pick<RunStatement, "programs"> | undefined} run */
export const buildLabels = (run) => [...new Map((run?.programs ?? []).flatMap(({ build }) => (build ? [[JSON.stringify(build), build]] : []))).values()].map(
  ({ repository, ref, commit }) => h("span", { class: "build" }, ` ${words.from} `, quoted(`${repository} ${ref}`, { mono: true }), " ", h("code", { title: commit }, commit.slice(0, 8))));
