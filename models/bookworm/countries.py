"""Countries and their capitals, in Korean and English."""

from typing import NamedTuple


class Country(NamedTuple):
    """A country and its capital."""

    name_ko: str
    name_en: str
    capital_ko: str
    capital_en: str


_TABLE = """
한국 South_Korea 서울 Seoul|일본 Japan 도쿄 Tokyo|중국 China 베이징 Beijing|몽골 Mongolia 울란바토르 Ulaanbaatar
베트남 Vietnam 하노이 Hanoi|태국 Thailand 방콕 Bangkok|인도 India 뉴델리 New_Delhi|네팔 Nepal 카트만두 Kathmandu
프랑스 France 파리 Paris|영국 Britain 런던 London|독일 Germany 베를린 Berlin|이탈리아 Italy 로마 Rome
스페인 Spain 마드리드 Madrid|포르투갈 Portugal 리스본 Lisbon|네덜란드 Netherlands 암스테르담 Amsterdam
벨기에 Belgium 브뤼셀 Brussels|스위스 Switzerland 베른 Bern|오스트리아 Austria 빈 Vienna
덴마크 Denmark 코펜하겐 Copenhagen
스웨덴 Sweden 스톡홀름 Stockholm|노르웨이 Norway 오슬로 Oslo|핀란드 Finland 헬싱키 Helsinki
아이슬란드 Iceland 레이캬비크 Reykjavik
아일랜드 Ireland 더블린 Dublin|폴란드 Poland 바르샤바 Warsaw|체코 Czechia 프라하 Prague
헝가리 Hungary 부다페스트 Budapest
루마니아 Romania 부쿠레슈티 Bucharest|그리스 Greece 아테네 Athens|튀르키예 Turkey 앙카라 Ankara
러시아 Russia 모스크바 Moscow
우크라이나 Ukraine 키이우 Kyiv|이집트 Egypt 카이로 Cairo|모로코 Morocco 라바트 Rabat|케냐 Kenya 나이로비 Nairobi
나이지리아 Nigeria 아부자 Abuja|가나 Ghana 아크라 Accra|에티오피아 Ethiopia 아디스아바바 Addis_Ababa
세네갈 Senegal 다카르 Dakar
미국 United_States 워싱턴 Washington|캐나다 Canada 오타와 Ottawa|멕시코 Mexico 멕시코시티 Mexico_City
쿠바 Cuba 아바나 Havana
브라질 Brazil 브라질리아 Brasilia|아르헨티나 Argentina 부에노스아이레스 Buenos_Aires|칠레 Chile 산티아고 Santiago
페루 Peru 리마 Lima|콜롬비아 Colombia 보고타 Bogota|오스트레일리아 Australia 캔버라 Canberra
뉴질랜드 New_Zealand 웰링턴 Wellington
이란 Iran 테헤란 Tehran|이라크 Iraq 바그다드 Baghdad|사우디아라비아 Saudi_Arabia 리야드 Riyadh|요르단 Jordan 암만 Amman
필리핀 Philippines 마닐라 Manila|인도네시아 Indonesia 자카르타 Jakarta|말레이시아 Malaysia 쿠알라룸푸르 Kuala_Lumpur
캄보디아 Cambodia 프놈펜 Phnom_Penh|라오스 Laos 비엔티안 Vientiane|파키스탄 Pakistan 이슬라마바드 Islamabad
방글라데시 Bangladesh 다카 Dhaka|불가리아 Bulgaria 소피아 Sofia|세르비아 Serbia 베오그라드 Belgrade
크로아티아 Croatia 자그레브 Zagreb
에스토니아 Estonia 탈린 Tallinn|라트비아 Latvia 리가 Riga|튀니지 Tunisia 튀니스 Tunis
우루과이 Uruguay 몬테비데오 Montevideo
"""


def _read(table: str) -> tuple[Country, ...]:
    rows = [cell.split() for line in table.split("\n") for cell in line.split("|")]
    return tuple(Country(*(word.replace("_", " ") for word in row)) for row in rows if row)


COUNTRIES = _read(_TABLE)
ENGLISH_NAMES = {country.name_ko: country.name_en for country in COUNTRIES}
