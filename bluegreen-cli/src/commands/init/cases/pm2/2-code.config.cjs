// Secrets come from the environment.
require('dotenv').config();
const path = require('path');

/** @type {import('pm2').StartOptions} */
const shared = { watch: false };
const config = {
  apps: [
    {
      ...shared,
      name: "portal",
      cwd: path.join(__dirname, "portal"),
      script: "npm",
      args: "run start -- --port 4100",
      env: {
        PORT: process.env.PORT || 4100,
        TOKEN: process.env.TOKEN,
        NODE_ENV: "production", // quoted with "
        BANNER: `portal`,
      },
      autorestart: false,
      cron_restart: "0 3 * * *",
    },
    makeWorker("mail"),
  ],
};

module.exports = config;
