from thanos.cli import main

main()
