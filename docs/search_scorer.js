// Ranks results of the site's search: Sphinx's own scores, with the ten questions before other pages that contain all
// words, and names of the API after them.
var Scorer = {
  score: ([page, , , , score]) => score + (page === "questions" ? 30 : page.startsWith("api/") ? -20 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
