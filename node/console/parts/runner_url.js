// @ts-check

/** Origin of the runner that the node's operator named; none where none is. The page's policy lets requests go there. */
export const runnerUrl = document.documentElement.dataset.runner ?? "";
