// The texts of the page of secrets while a team is chosen.

/** On the page of secrets, while a team is chosen. @type {Record<string, string>} */
export const teamSecrets = {
  admin: "The members of the team read these secrets, and writers and admins change them. Each read leaves a receipt, which admins see.",
  writer: "The members of the team read these secrets, and writers and admins change them. You are a writer.",
  reader: "The members of the team read these secrets. You are a reader: writers and admins change them.",
  listed: "Your membership is for the secrets below alone.",
  empty: "The team has no secrets, or has deleted those of your membership.",
  notListed: "Your membership is for other secrets. Ask an admin for this one.",
  noteField: "Note for the team",
  noteHint: "All members who use all secrets read it, and writers and admins change it. It is sealed like a secret. Leave it empty to delete it.",
  holders: "Admins see who may open it.",
};
