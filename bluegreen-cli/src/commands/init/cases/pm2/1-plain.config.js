module.exports = {
  apps: [{
    name: 'shop-api',
    script: './dist/server.js',
    instances: 'max',
    exec_mode: 'cluster',
    env: { NODE_ENV: 'development', PORT: 3002 },
    env_production: { NODE_ENV: 'production' },
    max_memory_restart: '500M',
    error_file: './logs/err.log',
    out_file: './logs/out.log',
    kill_timeout: 5000,
    listen_timeout: 45000,
    wait_ready: true
  }]
};
