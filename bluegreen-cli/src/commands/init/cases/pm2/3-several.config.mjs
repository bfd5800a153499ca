export default {
  apps: [
    { name: "@acme/web", script: "web.js", env: { PORT: "5001" }, watch: true, ignore_watch: ["logs"] },
    { name: "@acme/admin", script: "admin.js", instances: 1, env: { PORT: 5002 }, uid: "node" },
    { script: "queue.js", instances: -1 },
  ],
  deploy: {
    production: { user: "deploy", host: ["10.0.0.1"], ref: "origin/main", repo: "git@example.com:acme/web.git", path: "/srv" },
  },
};
